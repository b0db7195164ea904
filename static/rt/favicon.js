// The favicon with a number.

const BUBBLE = "M7 3h18a5 5 0 0 1 5 5v11a5 5 0 0 1-5 5H15l-7 6v-6H7a5 5 0 0 1-5-5V8a5 5 0 0 1 5-5z"; // as in favicon.svg

/** A data URL of the icon with `text` (up to three characters) in place of its lines. */
export function favicon(text) {
  const size = [20, 18, 12][text.length - 1];
  const label = `<text x="16" y="${13.5 + 0.36 * size}" font-size="${size}">${text}</text>`;
  const style = `fill="#fff" font-family="Arial, sans-serif" font-weight="bold" text-anchor="middle"`;
  const bubble = `<path fill="#c92a2a" d="${BUBBLE}"/>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${bubble}<g ${style}>${label}</g></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
