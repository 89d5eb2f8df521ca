// Where `object-fit: contain` puts a picture.

/**
 * The box of a picture within its element, in CSS pixels, its edges on device pixels. `place` is its `object-position`,
 * 0 to 1 each way.
 * A picture or element without area gives an empty box.
 */
export function containedBox(element, picture, pixelRatio, place = { x: 0.5, y: 0.5 }) {
  const scale = Math.min(element.width / picture.width, element.height / picture.height);
  if (!(scale > 0 && Number.isFinite(scale))) return { left: 0, top: 0, width: 0, height: 0 };
  const snap = (length) => Math.round(length * pixelRatio) / pixelRatio;
  const x = (element.width - picture.width * scale) * place.x;
  const y = (element.height - picture.height * scale) * place.y;
  const [left, top] = [snap(x), snap(y)];
  const [right, bottom] = [snap(x + picture.width * scale), snap(y + picture.height * scale)];
  return { left, top, width: right - left, height: bottom - top };
}
