/** Amounts, as people read them. */

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const;

/** Bytes in the largest unit of which there is at least one, such as "1.5 MB". */
export function sizeOf(bytes: number, language: string): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const options = { style: 'unit', unit: UNITS[power], unitDisplay: power ? 'short' : 'long', maximumFractionDigits: 1 } as const;
  return new Intl.NumberFormat(language, options).format(bytes / 1000 ** power);
}

/** A moment within the next days, such as "Tue 02:00"; milliseconds since 1970. */
export function timeOf(moment: number, language: string): string {
  return new Date(moment).toLocaleString(language, { weekday: 'short', hour: '2-digit', minute: '2-digit' });
}
