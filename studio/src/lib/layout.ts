/** Pages of panels: how many rows a page has and where each panel lies, in shares of the page. */

export interface Paper {
  /** In millimetres. */
  width: number;
  height: number;
}

export const PAPERS: Record<'a4' | 'letter' | 'square', Paper> = {
  a4: { width: 210, height: 297 },
  letter: { width: 215.9, height: 279.4 },
  square: { width: 210, height: 210 },
};

/** Panels in each row of a page with so many panels. */
export const ROWS: Record<number, readonly number[]> = {
  1: [1],
  2: [1, 1],
  3: [1, 2],
  4: [2, 2],
  5: [2, 1, 2],
  6: [2, 2, 2],
};

const MARGIN_MM = 12;
const GUTTER_MM = 5;

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

/** A last page with fewer panels keeps the rows of a full one, so that its panels are no larger than the others. */
function cellsOf(first: number, here: number, perPage: number, paper: Paper): Cell[] {
  const rows = ROWS[perPage] ?? [1];
  const innerWidth = paper.width - 2 * MARGIN_MM;
  const rowHeight = (paper.height - 2 * MARGIN_MM - GUTTER_MM * (rows.length - 1)) / rows.length;
  const cells: Cell[] = [];
  let panel = 0;
  rows.forEach((columns, row) => {
    const width = (innerWidth - GUTTER_MM * (columns - 1)) / columns;
    for (let column = 0; column < columns && panel < here; column++, panel++) {
      cells.push({
        panel: first + panel,
        x: (MARGIN_MM + column * (width + GUTTER_MM)) / paper.width,
        y: (MARGIN_MM + row * (rowHeight + GUTTER_MM)) / paper.height,
        width: width / paper.width,
        height: rowHeight / paper.height,
      });
    }
  });
  return cells;
}
