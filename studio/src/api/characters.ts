/** Requests of `/v1/characters`. */
import { client, data, type Candidates, type Character } from './client';
import { call } from './http';

export interface CharacterFields {
  name: string;
  description: string;
  target_word: string;
}

/** A character of the pictures, whose cut-outs and word the service finds. */
export function createFromPictures(fields: CharacterFields, pictures: Blob[]): Promise<Character> {
  const form = pictureForm(pictures);
  for (const [name, value] of Object.entries(fields)) form.set(name, value as string);
  return call<Character>('POST', '/v1/characters', { form });
}

export function createCharacter(
  body: CharacterFields & ({ candidates: string; choice: number } | { pictures: string[] }),
): Promise<Character> {
  return call<Character>('POST', '/v1/characters', { body });
}

export function drawCandidates(prompt: string, n: number): Promise<Candidates> {
  return data<Candidates>(client.POST('/v1/characters/candidates', { body: { prompt, n } }));
}

export function changeCharacter(id: string, body: Partial<CharacterFields>): Promise<Character> {
  return data<Character>(client.PATCH('/v1/characters/{identifier}', { params: { path: { identifier: id } }, body }));
}

export function deleteCharacter(id: string): Promise<unknown> {
  return data(client.DELETE('/v1/characters/{identifier}', { params: { path: { identifier: id } } }));
}

export function addPictures(id: string, pictures: Blob[]): Promise<Character> {
  return call<Character>('POST', `/v1/characters/${encodeURIComponent(id)}/pictures`, { form: pictureForm(pictures) });
}

export function removePicture(id: string, picture: string): Promise<Character> {
  const path = { identifier: id, picture };
  return data<Character>(client.DELETE('/v1/characters/{identifier}/pictures/{picture}', { params: { path } }));
}

function pictureForm(pictures: Blob[]): FormData {
  const form = new FormData();
  pictures.forEach((picture, place) => form.append('pictures', picture, `picture-${place + 1}`));
  return form;
}
