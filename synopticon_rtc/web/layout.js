// Where tiles go, so that each is as large as it can be.

const RATIO = 16 / 9; // of a tile, width to height
const TALLEST = 4 / 3; // the same, where there is height to spare
const GAP = 8; // CSS pixels between two tiles
const STRIPS = [0.16, 0.2, 0.25, 0.3]; // of the width or the height, for all but the large tile

/**
 * The places of tiles in an area, in CSS pixels.
 *
 * @param {number} count of tiles
 * @param {{width: number, height: number}} area
 * @param {number} large the index of the one that is to be large, -1 for none
 * @returns {{left: number, top: number, width: number, height: number}[]}
 */
export function arrange(count, { width, height }, large = -1) {
  const whole = { left: 0, top: 0, width, height };
  if (large < 0 || count < 2) return rows(count, whole);
  let best = null;
  for (const share of STRIPS) {
    for (const [main, strip] of [besides(whole, share), below(whole, share)]) {
      const small = rows(count - 1, strip);
      const [place] = rows(1, main);
      const score = place.width + small[0].width / 2; // the large one counts most, and the others are not to vanish
      if (best === null || score > best.score) best = { score, main, small };
    }
  }
  return [...best.small.slice(0, large), best.main, ...best.small.slice(large)];
}

/** As many in each row as lets tiles be largest; the last row is in the middle. */
function rows(count, { left, top, width, height }) {
  let best = { size: 0, tile: { width: 0, height: 0 }, columns: 1 };
  for (let columns = 1; columns <= count; columns++) {
    const lines = Math.ceil(count / columns);
    const most = Math.max(0, (height - (lines - 1) * GAP) / lines);
    const wide = Math.max(0, Math.floor(Math.min((width - (columns - 1) * GAP) / columns, most * RATIO)));
    const tile = { width: wide, height: Math.floor(Math.min(wide / TALLEST, most)) };
    if (tile.width * tile.height > best.size) best = { size: tile.width * tile.height, tile, columns };
  }
  const { tile } = best;
  const lines = Math.ceil(count / best.columns);
  const above = (height - lines * tile.height - (lines - 1) * GAP) / 2;
  return Array.from({ length: count }, (_, index) => {
    const line = Math.floor(index / best.columns);
    const inLine = Math.min(best.columns, count - line * best.columns);
    const before = (width - inLine * tile.width - (inLine - 1) * GAP) / 2;
    const x = before + (index % best.columns) * (tile.width + GAP);
    const y = above + line * (tile.height + GAP);
    return { left: left + Math.round(x), top: top + Math.round(y), ...tile };
  });
}

/** An area with a strip of it at its right, or at its bottom. */
function besides({ left, top, width, height }, share) {
  const strip = Math.round(width * share);
  const main = { left, top, width: width - strip - GAP, height };
  return [main, { left: left + width - strip, top, width: strip, height }];
}

function below({ left, top, width, height }, share) {
  const strip = Math.round(height * share);
  const main = { left, top, width, height: height - strip - GAP };
  return [main, { left, top: top + height - strip, width, height: strip }];
}
