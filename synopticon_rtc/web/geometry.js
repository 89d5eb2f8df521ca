// Where `object-fit: contain` puts a picture.

/**
 * The box of a picture within its element, in CSS pixels, its edges on device pixels.
 * A picture or element without area gives an empty box.
 */
export function containedBox(element, picture, pixelRatio) {
  const scale = Math.min(element.width / picture.width, element.height / picture.height);
  if (!(scale > 0 && Number.isFinite(scale))) return { left: 0, top: 0, width: 0, height: 0 };
  const snap = (length) => Math.round(length * pixelRatio) / pixelRatio;
  const left = snap((element.width - picture.width * scale) / 2);
  const top = snap((element.height - picture.height * scale) / 2);
  const right = snap((element.width + picture.width * scale) / 2);
  const bottom = snap((element.height + picture.height * scale) / 2);
  return { left, top, width: right - left, height: bottom - top };
}
