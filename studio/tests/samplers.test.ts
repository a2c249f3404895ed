import { expect, test } from 'vitest';
import document from '../openapi.json';
import { asSampler, SAMPLERS } from '../src/lib/samplers';

test('every sampler of the service has a name', () => {
  const field = document.components.schemas.PanelFields.properties.sampler.anyOf.find((each) => 'enum' in each);
  expect(SAMPLERS.map((each) => each.value).sort()).toEqual([...(field?.enum ?? [])].sort());
  expect(new Set(SAMPLERS.map((each) => each.label)).size).toBe(SAMPLERS.length);
});

test.each([
  ['euler_a', 'euler_a'],
  ['of tomorrow', null],
  [null, null],
  ['toString', null],
])('%s is %s', (name, sampler) => expect(asSampler(name)).toBe(sampler));
