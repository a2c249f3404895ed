/** Short notices with a way to take back what was done. */
import { createStore } from './store';

export interface Toast {
  id: number;
  text: string;
  tone: 'plain' | 'error';
  undo?: (() => void) | undefined;
}

export const toasts = createStore<readonly Toast[]>([]);
let count = 0;
const SHOWN_MS = 8000;

export function dismiss(id: number): void {
  toasts.update((all) => all.filter((toast) => toast.id !== id));
}

export function toast(text: string, options: { tone?: Toast['tone']; undo?: () => void } = {}): void {
  const id = ++count;
  toasts.update((all) => [...all.slice(-2), { id, text, tone: options.tone ?? 'plain', undo: options.undo }]);
  if (options.tone !== 'error') setTimeout(() => dismiss(id), SHOWN_MS);
}
