/** Numbers for people. Pure. */

const UNITS = ["", "k", "M", "G", "T"];

function scaled(value: number): { text: string; unit: string } {
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < UNITS.length - 1) {
    rest /= 1000;
    unit++;
  }
  const digits = rest >= 99.5 || (unit === 0 && Number.isInteger(rest)) ? 0 : rest >= 9.95 ? 1 : 2;
  return { text: rest.toFixed(digits), unit: UNITS[unit]! };
}

/** "1.24 Mbit/s". */
export function bitRate(bitsPerSecond: number): string {
  const { text, unit } = scaled(bitsPerSecond);
  return `${text} ${unit}bit/s`;
}

/** "12.0 k/s". */
export function packetRate(perSecond: number): string {
  const { text, unit } = scaled(perSecond);
  return `${text}${unit === "" ? "" : ` ${unit}`}/s`;
}

/** Time of day of an ISO 8601 time, with its day where it is not today; empty for none. */
export function clockTime(iso: string): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return "";
  const clock = time.toLocaleTimeString("en-GB");
  return time.toDateString() === new Date().toDateString()
    ? clock
    : `${time.toLocaleDateString("en-GB")} ${clock}`;
}

/** "12,345". */
export function count(value: number): string {
  return value.toLocaleString("en");
}
