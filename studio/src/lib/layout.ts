/** Pages of panels, as the service's PDF lays them out: where each panel lies, in shares of the page. */

export interface Paper {
  /** In points. */
  width: number;
  height: number;
}

export const PAPERS: Record<'a4' | 'letter' | 'square', Paper> = {
  a4: { width: 595.28, height: 841.89 },
  letter: { width: 612, height: 792 },
  square: { width: 612, height: 612 },
};

/** Columns and rows of a page with so many panels. */
export const GRIDS: Record<number, readonly [number, number]> = {
  1: [1, 1],
  2: [1, 2],
  3: [1, 3],
  4: [2, 2],
  5: [2, 3],
  6: [2, 3],
};

/** Points. */
const MARGIN = 36;
const GAP = 14;
/** Room for the page's number. */
const FOOT = 18;

export interface Cell {
  /** Which panel: an index into the story's visible panels. */
  panel: number;
  /** Shares of the page's width and height. */
  x: number;
  y: number;
  width: number;
  height: number;
}

export type Page = { kind: 'title' } | { kind: 'panels'; number: number; cells: Cell[] };

/** The pages of a story with so many visible panels. */
export function layoutPages(count: number, perPage: number, titlePage: boolean, paper: Paper): Page[] {
  const pages: Page[] = titlePage ? [{ kind: 'title' }] : [];
  for (let first = 0; first < count; first += perPage) {
    const here = Math.min(perPage, count - first);
    pages.push({ kind: 'panels', number: Math.floor(first / perPage) + 1, cells: cellsOf(first, here, perPage, paper) });
  }
  return pages;
}

/** A last page with fewer panels keeps the grid of a full one, so that its panels are no larger than the others. */
function cellsOf(first: number, here: number, perPage: number, paper: Paper): Cell[] {
  const [columns, rows] = GRIDS[perPage] ?? [1, 1];
  const width = (paper.width - 2 * MARGIN - (columns - 1) * GAP) / columns;
  const height = (paper.height - 2 * MARGIN - FOOT - (rows - 1) * GAP) / rows;
  return Array.from({ length: here }, (_, place) => ({
    panel: first + place,
    x: (MARGIN + (place % columns) * (width + GAP)) / paper.width,
    y: (MARGIN + Math.floor(place / columns) * (height + GAP)) / paper.height,
    width: width / paper.width,
    height: height / paper.height,
  }));
}
