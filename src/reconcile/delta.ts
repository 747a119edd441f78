/**
 * Desired against actual: what to add, to change and to remove. Pure; every manager in this folder
 * compares with it, so that applying twice does nothing the second time.
 */

export interface Delta<D, A> {
  add: D[];
  /** Present on both sides, but not the same. */
  change: { desired: D; actual: A }[];
  remove: A[];
}

/**
 * Compares two lists by key. Order of the results is that of the inputs.
 *
 * @param same whether an actual item is as desired
 */
export function delta<D, A>(
  desired: Iterable<D>,
  actual: Iterable<A>,
  desiredKey: (item: D) => string,
  actualKey: (item: A) => string,
  same: (desired: D, actual: A) => boolean,
): Delta<D, A> {
  const left = new Map<string, A>();
  for (const item of actual) left.set(actualKey(item), item);
  const result: Delta<D, A> = { add: [], change: [], remove: [] };
  for (const item of desired) {
    const key = desiredKey(item);
    const present = left.get(key);
    if (present === undefined) result.add.push(item);
    else if (!same(item, present)) result.change.push({ desired: item, actual: present });
    left.delete(key);
  }
  result.remove.push(...left.values());
  return result;
}
