import type { Panel, Take } from '../../api/stories';

export type PanelState = 'empty' | 'queued' | 'running' | 'done' | 'changed' | 'failed';

/** What a panel is at, as one word. */
export function stateOf(panel: Panel): PanelState {
  if (panel.job?.status === 'running') return 'running';
  if (panel.job?.status === 'queued') return 'queued';
  if (panel.error) return 'failed';
  if (panel.takes.length === 0) return 'empty';
  return panel.dirty ? 'changed' : 'done';
}

export const isDrawing = (panel: Panel): boolean => ['queued', 'running'].includes(stateOf(panel));

/** Whether something is to be drawn, and nothing of it has begun. */
export function isWaiting(panels: readonly Panel[]): boolean {
  const drawing = panels.filter(isDrawing);
  return drawing.length > 0 && drawing.every((panel) => !panel.job?.step);
}

export function chosenTake(panel: Panel): Take | null {
  return panel.takes.find((take) => take.id === panel.chosen) ?? panel.takes[0] ?? null;
}
