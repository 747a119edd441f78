/** Values on a benchmark's command line. Pure. */

/** The items of a list with commas. */
export function list(text: string): string[] {
  return text.split(",").filter((item) => item !== "");
}

/** The whole number above 0 that `--name` was given. Throws an Error that says so. */
export function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} takes a whole number above 0`);
  return value;
}

/** The members of `known` that have the `keys`, in the keys' order. Throws for an unknown key. */
export function selectByKey<T extends { key: string }>(
  kind: string,
  known: readonly T[],
  keys: readonly string[],
): T[] {
  return keys.map((key) => {
    const found = known.find((candidate) => candidate.key === key);
    if (found === undefined)
      throw new Error(`unknown ${kind} ${key}; there are ${known.map((each) => each.key).join(", ")}`);
    return found;
  });
}
