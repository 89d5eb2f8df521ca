// Begins the viewer: one broadcaster, or with `?grid` everybody at once.

const { searchParams } = new URL(location.href);
await import(searchParams.has("grid") ? "./grid.js" : "./viewer.js");
