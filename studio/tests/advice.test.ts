import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { adviceOf } from '../src/lib/advice';

const service = readFileSync('../components/characters/advice.py', 'utf8');

describe('advice', () => {
  it.each([
    ['No subject stands out from the background: use a picture of the subject alone, or say where it is with a box or a mask.', 'notFound', {}],
    ['The subject is 48 pixels large: at least 384 would show its details.', 'small', { pixels: '48', least: '384' }],
    ['The subject is blurred: use a sharper picture.', 'blurred', {}],
    ['The subject fills 4% of the picture: move closer or crop.', 'far', { share: '4%' }],
    ['The background is busy: a plain one makes the subject easier to separate.', 'busy', {}],
  ])('%s', (sentence, kind, values) => expect(adviceOf(sentence)).toEqual({ kind, values }));

  it('that is not known stays as it is', () => expect(adviceOf('Smile.')).toBe(null));

  it('of the service is known, all of it', () => {
    const said = [...service.matchAll(/^ +(?:advice\.append\(f?)?"([A-Z][^"]+)"\)?$/gmu)].map((match) => match[1] ?? '');
    expect(said).toHaveLength(5);
    const examples = said.map((each) => each.replace('{share:.0%}', '4%').replace(/\{\w+\}/g, '48'));
    expect(examples.map((each) => adviceOf(each)?.kind).sort()).toEqual(['blurred', 'busy', 'far', 'notFound', 'small']);
  });
});
