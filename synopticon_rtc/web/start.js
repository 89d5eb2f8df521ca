// Begins the viewer: one broadcaster, or with `?grid` everybody at once.

const { searchParams } = new URL(location.href);
const page = searchParams.has("grid") ? "grid.js" : "viewer.js";
// An element, as the page is loaded only once its script has run; it would not wait for an import().
document.head.append(Object.assign(document.createElement("script"), { type: "module", src: page }));
