/** The files that pictures came from, as long as the page is open: the service keeps what it has cut out of them. */
import { createStore } from '../../lib/store';

const files = new Map<string, Blob>();

export const originals = {
  keep(pictures: readonly { id: string }[], blobs: readonly Blob[]): void {
    pictures.forEach((picture, place) => blobs[place] && files.set(picture.id, blobs[place]));
  },
  of: (picture: string): Blob | null => files.get(picture) ?? null,
};

/** A picture drawn elsewhere that is to become a character. */
export const offered = createStore<Blob | null>(null);
