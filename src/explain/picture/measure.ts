/**
 * How much room a text takes, without a font at hand: widths of DejaVu Sans (Verdana's are the same, other
 * fonts of browsers are narrower), a little rounded up. Pure.
 */

/** Width of characters in parts of the font's size; those not listed are as wide as a digit. */
const WIDTHS: readonly (readonly [string, number])[] = [
  [" .,:;'|!iljI", 0.35],
  ["/\\-()[]frt", 0.41],
  ["mwMW@%", 0.98],
  ["→←↔⇒", 0.84],
];
const DIGIT = 0.64;
const UPPER = 0.71;
/** Bold is wider by this. */
const BOLD = 1.1;

const WIDTH_OF = new Map(
  WIDTHS.flatMap(([characters, width]) => [...characters].map((each) => [each, width])),
);

/** Width of a text in pixels at a font size in pixels. */
export function textWidth(text: string, size: number, bold = false): number {
  let width = 0;
  for (const each of text) width += WIDTH_OF.get(each) ?? (/[A-Z]/.test(each) ? UPPER : DIGIT);
  return width * size * (bold ? BOLD : 1);
}

/** A text cut in its middle so that it is no wider than this: what tells names apart stands at their ends. */
export function fitted(text: string, width: number, size: number, bold = false): string {
  if (textWidth(text, size, bold) <= width) return text;
  for (let kept = text.length - 1; kept > 2; kept--) {
    const end = Math.floor(kept / 2);
    const cut = `${text.slice(0, kept - end)}…${text.slice(text.length - end)}`;
    if (textWidth(cut, size, bold) <= width) return cut;
  }
  return "…";
}
