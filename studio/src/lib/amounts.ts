/** Amounts of a quota, as people read them. */

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const;

/** Bytes in the largest unit of which there is at least one, such as "1.5 MB". */
export function sizeOf(bytes: number, language: string): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const options = { style: 'unit', unit: UNITS[power], unitDisplay: power ? 'short' : 'long', maximumFractionDigits: 1 } as const;
  return new Intl.NumberFormat(language, options).format(bytes / 1000 ** power);
}

/** The used share; what has begun is never 0 %, and what is not used up never 100 %. */
export function shareOf(used: number, most: number, language: string): string {
  const share = most > 0 ? Math.min(1, used / most) : 1;
  const rounded = used > 0 && used < most ? Math.min(0.99, Math.max(0.01, share)) : share;
  return new Intl.NumberFormat(language, { style: 'percent' }).format(rounded);
}
