import { expect, test } from 'vitest';
import { shareOf, sizeOf } from '../src/lib/amounts';

test.each([
  [0, '0 bytes'],
  [999, '999 bytes'],
  [1000, '1 kB'],
  [1_540_000, '1.5 MB'],
  [20_000_000_000, '20 GB'],
])('%d bytes are %s', (bytes, said) => expect(sizeOf(bytes, 'en')).toBe(said));

test.each([
  [0, 1000, '0%'],
  [1, 1000, '1%'],
  [370, 1000, '37%'],
  [999, 1000, '99%'],
  [1000, 1000, '100%'],
  [1200, 1000, '100%'],
  [0, 0, '100%'],
])('%d of %d are %s', (used, most, said) => expect(shareOf(used, most, 'en')).toBe(said));
