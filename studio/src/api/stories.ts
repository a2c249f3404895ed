/** Stories and their panels: the types and requests of `/v1/stories`. */
import { call, idempotencyKey, send } from './http';

export interface Pages {
  panels_per_page: number;
  title_page: boolean;
  paper: 'a4' | 'letter' | 'square';
}

export interface PanelCharacter {
  id: string;
  strength: number;
  face_strength: number;
  body_strength: number;
}

export interface Balloon {
  text: string;
  /** Shares of the picture. */
  x: number;
  y: number;
  tail_x: number;
  tail_y: number;
}

export interface TakeSettings {
  prompt: string;
  revised_prompt: string | null;
  characters: (PanelCharacter & { name: string; target_word: string })[];
  size: string;
  negative_prompt: string;
  steps: number | null;
  guidance_scale: number | null;
  scheduler: string | null;
}

export interface Take {
  id: string;
  created: number;
  picture: string;
  thumbnail: string;
  masks: string[];
  width: number;
  height: number;
  seed: number;
  model: string;
  model_version: string;
  settings: TakeSettings;
}

export interface PanelJob {
  id: string;
  status: 'queued' | 'running' | 'done' | 'failed' | 'cancelled';
  step: number;
  total: number;
}

export interface PanelProblem {
  message: string;
  param: string | null;
  code: string | null;
}

export interface Panel {
  id: string;
  revision: number;
  prompt: string;
  mentions: { name: string; character: string | null; start: number; end: number }[];
  caption: string;
  characters: PanelCharacter[];
  size: string;
  seed: number | null;
  seed_locked: boolean;
  hidden: boolean;
  balloons: Balloon[];
  with_characters: boolean;
  chosen: string | null;
  takes: Take[];
  job: PanelJob | null;
  dirty: boolean;
  error: PanelProblem | null;
}

export interface Story {
  id: string;
  created: number;
  updated: number;
  revision: number;
  title: string;
  style: string;
  language: string;
  panel_count: number;
  cover: string | null;
  pages: Pages;
  panels: Panel[];
}

export type StoryHead = Omit<Story, 'panels'>;
export type StoryChange = Partial<Pick<Story, 'title' | 'style' | 'language' | 'pages'>>;
export type PanelChange = Partial<
  Pick<
    Panel,
    | 'prompt'
    | 'caption'
    | 'characters'
    | 'size'
    | 'seed'
    | 'seed_locked'
    | 'hidden'
    | 'balloons'
    | 'with_characters'
    | 'chosen'
  >
>;

export interface List<T> {
  data: T[];
  has_more: boolean;
}

const path = (story: string): string => `/v1/stories/${encodeURIComponent(story)}`;
const panelPath = (story: string, panel: string): string => `${path(story)}/panels/${encodeURIComponent(panel)}`;
const match = (revision: number): Record<string, string> => ({ 'If-Match': `"r${revision}"` });

export const stories = {
  list: (after?: string, signal?: AbortSignal) =>
    call<List<StoryHead>>('GET', '/v1/stories', { query: { limit: 100, after }, ...(signal && { signal }) }),
  get: (id: string, signal?: AbortSignal) => call<Story>('GET', path(id), signal && { signal }),
  create: (body: { title: string; style?: string; script?: string }) =>
    call<Story>('POST', '/v1/stories', { body, headers: idempotencyKey() }),
  change: (story: Pick<Story, 'id' | 'revision'>, body: StoryChange) =>
    call<Story>('PATCH', path(story.id), { body, headers: match(story.revision) }),
  remove: (id: string) => call<unknown>('DELETE', path(id)),
  addPanels: (id: string, panels: (PanelChange & { prompt: string })[], after?: string) =>
    call<{ data: Panel[] }>('POST', `${path(id)}/panels`, { body: { panels, after }, headers: idempotencyKey() }),
  changePanel: (id: string, panel: Pick<Panel, 'id' | 'revision'>, body: PanelChange) =>
    call<Panel>('PATCH', panelPath(id, panel.id), { body, headers: match(panel.revision) }),
  removePanel: (id: string, panel: string) => call<unknown>('DELETE', panelPath(id, panel)),
  duplicatePanel: (id: string, panel: string) =>
    call<Panel>('POST', `${panelPath(id, panel)}/duplicate`, { headers: idempotencyKey() }),
  order: (id: string, panels: string[]) => call<unknown>('PUT', `${path(id)}/order`, { body: { panels } }),
  draw: (id: string, panels?: string[], n = 1) =>
    call<{ data: unknown[]; skipped: { panel: string; reason: string }[] }>('POST', `${path(id)}/draw`, {
      body: { panels, n },
      headers: idempotencyKey(),
    }),
  cancel: (id: string, panel: string) => call<unknown>('DELETE', `${panelPath(id, panel)}/job`),
  removeTake: (id: string, take: string) =>
    call<unknown>('DELETE', `${path(id)}/takes/${encodeURIComponent(take)}`),
  importFile: (file: File) => {
    const form = new FormData();
    form.set('file', file);
    return call<Story & { notes: string[] }>('POST', '/v1/stories/import', { form, headers: idempotencyKey() });
  },
  export: async (id: string, format: ExportFormat): Promise<{ blob: Blob; name: string | null }> => {
    const response = await send(`${path(id)}/export?format=${format}`);
    const disposition = response.headers.get('Content-Disposition') ?? '';
    const encoded = /filename\*=UTF-8''([^;]+)/i.exec(disposition)?.[1];
    const name = encoded ? decodeURIComponent(encoded) : (/filename="?([^";]+)"?/i.exec(disposition)?.[1] ?? null);
    return { blob: await response.blob(), name };
  },
};

export type ExportFormat = 'pdf' | 'cbz' | 'zip' | 'story';

export interface Generation extends Take {
  story: string | null;
  panel: string | null;
  characters: string[];
}

export const history = {
  list: (filter: { character?: string; story?: string }, after?: string, signal?: AbortSignal) =>
    call<List<Generation>>('GET', '/v1/history', { query: { ...filter, limit: 48, after }, ...(signal && { signal }) }),
  remove: (id: string) => call<unknown>('DELETE', `/v1/history/${encodeURIComponent(id)}`),
};

export interface Usage {
  owner: string;
  limits: Record<string, number | null>;
  used: Record<string, number>;
}

export const usage = (signal?: AbortSignal) => call<Usage>('GET', '/v1/usage', signal && { signal });
