/** Mixes an address into 32 well-spread bits (the finaliser of MurmurHash3). */
export function hashAddress(address: number): number {
  let h = address;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** Smallest power of two of at least 2n, at least 4: half-full open addressing. */
export function bucketsFor(n: number): number {
  let size = 4;
  while (size < 2 * n) size *= 2;
  return size;
}
