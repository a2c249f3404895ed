/** LoRAs: small additions to the model, each with a weight. */

export interface Lora {
  name: string;
  /** 1 where it is not stated. */
  weight?: number;
}

export const MAX_LORAS = 4;
export const WEIGHTS = [-4, 4] as const;

export const weightOf = ({ weight = 1 }: Lora): number => weight;

/** The chosen ones with one more at its full weight, or without one. */
export function turned(chosen: readonly Lora[], name: string, on: boolean): Lora[] {
  const others = chosen.filter((each) => each.name !== name);
  return on ? [...others, { name, weight: 1 }] : others;
}

/** The chosen ones with another weight of one of them. */
export const weighted = (chosen: readonly Lora[], name: string, weight: number): Lora[] =>
  chosen.map((each) => (each.name === name ? { name, weight } : each));

/** Every name that can be chosen, or is chosen although the service has it no more. */
export const lorasToShow = (served: readonly string[], chosen: readonly Lora[]): string[] => [
  ...new Set([...served, ...chosen.map(({ name }) => name)]),
];

/** Such as "ink 0.8, flat 1". */
export const lorasText = (chosen: readonly Lora[]): string =>
  chosen.map((each) => `${each.name} ${weightOf(each)}`).join(', ');
