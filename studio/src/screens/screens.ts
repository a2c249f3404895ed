/** The screens; all but the board's are loaded when they are first wanted. */
import { onDemand } from '../components/onDemand';

export const Stories = onDemand(() => import('./Stories'));
export const Cast = onDemand(() => import('./Cast'));
export const NewCharacter = onDemand(() => import('./character/NewCharacter'));
export const CharacterScreen = onDemand(() => import('./character/CharacterScreen'));
export const OnePicture = onDemand(() => import('./OnePicture'));
export const History = onDemand(() => import('./History'));
export const Settings = onDemand(() => import('./Settings'));
export const Script = onDemand(() => import('./story/Script'));
export const Pages = onDemand(() => import('./story/Pages'));
export const PanelEditor = onDemand(() => import('./story/PanelEditor'), true);

const AT: readonly [RegExp, { preload: () => Promise<void> }][] = [
  [/^\/$/, Stories],
  [/^\/stories\/[^/]+\/script/, Script],
  [/^\/stories\/[^/]+\/pages/, Pages],
  [/^\/stories\/[^/]+\/board\/./, PanelEditor],
  [/^\/cast$/, Cast],
  [/^\/cast\/new$/, NewCharacter],
  [/^\/cast\/./, CharacterScreen],
  [/^\/picture/, OnePicture],
  [/^\/history/, History],
  [/^\/settings/, Settings],
];

/** Begin to load the code of the screen at this path. */
export function preloadScreen(path: string): void {
  const screen = AT.find(([pattern]) => pattern.test(path))?.[1];
  screen?.preload().catch(() => undefined); // The screen asks again, and tells what fails.
}
