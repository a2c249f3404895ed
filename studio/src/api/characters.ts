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
  body: CharacterFields & ({ candidates: string; choice: number } | { pictures: string[]; masks?: string[] }),
): Promise<Character> {
  return call<Character>('POST', '/v1/characters', { body });
}

/** Draw pictures to choose a character from; all of them are kept in the history. */
export function drawCandidates(prompt: string, n: number, signal?: AbortSignal): Promise<Candidates> {
  const params = { header: { 'X-Keep': 'history' } };
  return data<Candidates>(
    client.POST('/v1/characters/candidates', { params, body: { prompt, n }, ...(signal && { signal }) }),
  );
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

/** Cut a picture out again, where a box or a mask says that its subject is; without both it is found anew. */
export function changeRegion(
  id: string,
  picture: string,
  { box, mask }: { box?: readonly number[]; mask?: Blob },
): Promise<Character> {
  const path = `/v1/characters/${encodeURIComponent(id)}/pictures/${encodeURIComponent(picture)}`;
  if (!mask) return call<Character>('PATCH', path, { body: box ? { box } : {} });
  const form = new FormData();
  form.set('mask', mask, 'mask.png');
  return call<Character>('PATCH', path, { form });
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
