import { expect, it } from 'vitest';
import { lorasText, lorasToShow, turned, weighted, weightOf } from '../src/lib/loras';

const ink = { name: 'ink', weight: 0.8 };

it('LoRAs are chosen at their full weight, and left out', () => {
  const both = turned([ink], 'flat', true);
  expect(both).toEqual([ink, { name: 'flat', weight: 1 }]);
  expect(turned(both, 'ink', false)).toEqual([{ name: 'flat', weight: 1 }]);
  expect(turned([ink], 'ink', true)).toEqual([{ name: 'ink', weight: 1 }]);
});

it('LoRAs have weights, 1 where none is stated', () => {
  expect(weightOf({ name: 'ink' })).toBe(1);
  expect(weighted([ink, { name: 'flat' }], 'flat', -0.5)).toEqual([ink, { name: 'flat', weight: -0.5 }]);
  expect(lorasText([ink, { name: 'flat' }])).toBe('ink 0.8, flat 1');
});

it('a chosen one is shown although the service has it no more', () => {
  expect(lorasToShow(['flat', 'line'], [ink, { name: 'flat' }])).toEqual(['flat', 'line', 'ink']);
});
