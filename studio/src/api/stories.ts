/** Stories and their panels: the types and requests of `/v1/stories`. */
import type { Schemas } from './client';
import { call, idempotencyKey, send } from './http';

export type Pages = Schemas['PagesResponse'];
export type PanelCharacter = Required<Schemas['PanelCharacterField']>;
export type Balloon = Schemas['BalloonField'];
export type Take = Schemas['TakeResponse'];
export type Panel = Omit<Schemas['PanelResponse'], 'characters'> & { characters: PanelCharacter[] };
export type Story = Omit<Schemas['StoryResponse'], 'panels'> & { panels: Panel[] };
export type StoryHead = Omit<Story, 'panels'>;
export type Redraw = Required<Schemas['RedrawRequest']>;
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
    | 'sampler'
    | 'steps'
    | 'guidance_scale'
    | 'loras'
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
    call<Schemas['DrawResponse']>('POST', `${path(id)}/draw`, {
      body: { panels, n },
      headers: idempotencyKey(),
    }),
  cancel: (id: string, panel: string) => call<unknown>('DELETE', `${panelPath(id, panel)}/job`),
  redraw: (id: string, take: string, body: Redraw) =>
    call<Schemas['DrawResponse']>('POST', `${path(id)}/takes/${encodeURIComponent(take)}/redraw`, {
      body,
      headers: idempotencyKey(),
    }),
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

export type ExportFormat = 'pdf' | 'cbz' | 'zip' | 'png' | 'story';

export type Generation = Schemas['GenerationResponse'];

export const history = {
  list: (filter: { character?: string; story?: string }, after?: string, signal?: AbortSignal) =>
    call<List<Generation>>('GET', '/v1/history', { query: { ...filter, limit: 48, after }, ...(signal && { signal }) }),
  remove: (id: string) => call<unknown>('DELETE', `/v1/history/${encodeURIComponent(id)}`),
};

export type Usage = Schemas['UsageResponse'];

export const usage = (signal?: AbortSignal) => call<Usage>('GET', '/v1/usage', signal && { signal });
