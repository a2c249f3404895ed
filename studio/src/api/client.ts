/** The typed client of the routes in the OpenAPI document. */
import createClient from 'openapi-fetch';
import { send } from './http';
import type { components, paths } from './schema';

export const client = createClient<paths>({ baseUrl: location.origin, fetch: (request) => send(request) });

export type Schemas = components['schemas'];
export type Character = Schemas['CharacterResponse'];
export type CharacterPicture = Schemas['PictureResponse'];
export type Candidates = Schemas['CandidatesResponse'];
export type CharacterPage = Schemas['CharacterPage'];
export type ModelPage = Schemas['ModelPage'];
export type ImageResponse = Schemas['ImageResponse'];

/**
 * The body of a success: `send` throws what is refused.
 *
 * The client widens tuples such as a face's box to arrays, so the type is said again.
 */
export async function data<T>(answer: Promise<{ data?: unknown }>): Promise<T> {
  return (await answer).data as T;
}

/** The small picture of a character; it changes with the first of its pictures, which the path therefore names. */
export function thumbnailOf(character: Character): string {
  const [first] = character.pictures;
  return `/v1/characters/${encodeURIComponent(character.id)}/thumbnail.webp?size=128#${first?.id ?? ''}`;
}
