/** Requests for a picture that is waited for, with looks at it in the making. */
import { serverEvents } from '../lib/sse';
import type { Schemas } from './client';
import { send } from './http';
import { Problem, problemIn } from './problem';

/** A picture in the making, as a PNG. */
export type Look = Pick<Schemas['PartialImageEvent'], 'step' | 'b64_json'>;
export type Drawn = Schemas['CompletedImageEvent'];

const LOOKS = 3;

/**
 * Draw one picture, and keep it in the history.
 *
 * @param body A form for edits, which take files; otherwise what JSON can say.
 * @throws Problem What the service refuses, also after it has begun.
 */
export async function drawPicture(
  path: '/v1/images/edits' | '/v1/images/generations',
  body: FormData | Record<string, unknown>,
  onLook: (look: Look) => void,
  signal: AbortSignal,
): Promise<Drawn> {
  const response = await send(path, { method: 'POST', signal, ...streamed(body) });
  if (response.body) {
    for await (const { event, data } of serverEvents(response.body)) {
      if (event === 'error') throw problemIn(JSON.parse(data), 500);
      if (event.endsWith('.partial_image')) onLook(JSON.parse(data) as Look);
      else if (event.endsWith('.completed')) return JSON.parse(data) as Drawn;
    }
  }
  throw new Problem('the answer has ended before the picture', 0, 'no_connection');
}

function streamed(body: FormData | Record<string, unknown>): RequestInit {
  const keep = { 'X-Keep': 'history' };
  if (!(body instanceof FormData)) {
    const headers = { ...keep, 'Content-Type': 'application/json' };
    return { headers, body: JSON.stringify({ ...body, stream: true, partial_images: LOOKS }) };
  }
  body.set('stream', 'true');
  body.set('partial_images', String(LOOKS));
  return { headers: keep, body };
}
