/**
 * Asks for the story of the board in the address bar, and then for its first pictures, while the rest of the studio's
 * code is still being loaded.
 *
 * A classic script that imports nothing, and so runs first; `send` takes the responses from the window.
 */
import type { Story } from './api/stories';

declare global {
  interface Window {
    /** Responses that are on their way, by path and query; each is taken once. */
    early?: Map<string, Promise<Response>>;
  }
}

(() => {
  /** So many panels of a board fit into a large window. */
  const first = 12;
  const early = new Map<string, Promise<Response>>();

  function ask(path: string): Promise<Response> {
    const key = sessionStorage.getItem('realcustom.key');
    const response = fetch(path, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
    early.set(path, response);
    return response;
  }

  async function askForPictures(response: Response): Promise<void> {
    if (!response.ok) return;
    const { panels } = (await response.clone().json()) as Story;
    for (const { takes, chosen } of panels.filter((panel) => !panel.hidden).slice(0, first)) {
      const take = takes.find(({ id }) => id === chosen) ?? takes[0];
      if (take) ask(take.thumbnail).catch(() => undefined); // Whoever takes the response is told.
    }
  }

  /** The story's response, once its pictures are asked for: who takes it asks for them, too. */
  async function askForBoard(path: string): Promise<Response> {
    const response = await ask(path);
    await askForPictures(response).catch(() => undefined); // Whoever takes the response is told.
    return response;
  }

  const [, story] = /^#\/stories\/([^/]+)\/board/.exec(location.hash) ?? [];
  if (!story) return;
  window.early = early;
  const path = `/v1/stories/${story}`;
  const response = askForBoard(path);
  response.catch(() => undefined); // As above.
  early.set(path, response);
})();
