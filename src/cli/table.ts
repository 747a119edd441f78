/** Text tables. */

/** Columns as wide as their widest cell, two blanks between. Columns in `right` are flush right. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string[] {
  const widths = head.map((title, i) =>
    rows.reduce((most, row) => Math.max(most, row[i]!.length), title.length),
  );
  return [head, ...rows].map((row) =>
    row
      .map((cell, i) => (right.has(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join("  ")
      .trimEnd(),
  );
}
