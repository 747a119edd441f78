import { parseArgs } from "node:util";

/** Whole numbers by option name, with their defaults. Throws on anything else. */
export function numberOptions<T extends Record<string, number>>(args: string[], defaults: T): T {
  const options = Object.fromEntries(
    Object.keys(defaults).map((name) => [name, { type: "string" as const }]),
  );
  const { values } = parseArgs({ args, options });
  const result: Record<string, number> = { ...defaults };
  for (const [name, text] of Object.entries(values)) {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`--${name} wants a whole number`);
    result[name] = value;
  }
  return result as T;
}
