import { expect, test } from 'vitest';
import { sizeOf } from '../src/lib/amounts';

test.each([
  [0, '0 bytes'],
  [999, '999 bytes'],
  [1000, '1 kB'],
  [1_540_000, '1.5 MB'],
  [20_000_000_000, '20 GB'],
])('%d bytes are %s', (bytes, said) => expect(sizeOf(bytes, 'en')).toBe(said));
