/** What two have written at the same time, put together: two people, or an answer and an event. */
import type { Panel, Story } from './stories';

/** A field that both have changed, as it is on the service and here. */
export interface Disputed {
  name: string;
  theirs: unknown;
  mine: unknown;
}

const same = (one: unknown, other: unknown): boolean => JSON.stringify(one) === JSON.stringify(other);

/** The fields of a change that are now neither what it was made on nor what it makes of them. */
export function disputed<T extends object>(base: T, now: T, change: object): Disputed[] {
  const before = base as Record<string, unknown>;
  const after = now as Record<string, unknown>;
  return Object.entries(change)
    .filter(([name, mine]) => !same(after[name], before[name]) && !same(after[name], mine))
    .map(([name, mine]) => ({ name, theirs: after[name], mine: mine as unknown }));
}

/**
 * What is known of a story after `next` has arrived: an answer that was written before an event and comes after it takes
 * nothing back.
 */
export function newest(known: Story | undefined, next: Story): Story {
  if (!known) return next;
  const { panels, ...head } = next.event < known.event ? known : next;
  const told = new Map(known.panels.map((panel) => [panel.id, panel]));
  const said = new Map(next.panels.map((panel) => [panel.id, panel]));
  const later = ({ id }: Panel): Panel[] => {
    const [before, after] = [told.get(id), said.get(id)];
    const panel = before && after && after.event < before.event ? before : (after ?? before);
    return panel ? [panel] : [];
  };
  return { ...head, panels: panels.flatMap(later) };
}

export function withPanel(story: Story, panel: Panel): Story {
  const known = story.panels.some((each) => each.id === panel.id);
  if (!known) return { ...story, panels: [...story.panels, panel] };
  return { ...story, panels: story.panels.map((each) => (each.id === panel.id ? panel : each)) };
}

/** The panels in the order given; those that it does not name are gone. */
export function inOrder(panels: Panel[], order: string[] | undefined): Panel[] {
  if (!order) return panels;
  const byId = new Map(panels.map((panel) => [panel.id, panel]));
  return order.flatMap((id) => byId.get(id) ?? []);
}
