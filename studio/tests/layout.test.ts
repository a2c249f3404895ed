import { describe, expect, it } from 'vitest';
import { GRIDS, layoutPages, PAPERS } from '../src/lib/layout';
import { shownSize } from '../src/lib/scale';
import { strengthWord } from '../src/lib/strength';

describe('pages', () => {
  it('hold every panel once, in order', () => {
    for (let perPage = 1; perPage <= 6; perPage++) {
      const pages = layoutPages(13, perPage, false, PAPERS.a4);
      expect(pages).toHaveLength(Math.ceil(13 / perPage));
      const panels = pages.flatMap((page) => (page.kind === 'panels' ? page.cells.map((cell) => cell.panel) : []));
      expect(panels).toEqual([...Array(13).keys()]);
    }
  });

  it('have room for as many panels as they say', () => {
    for (const [perPage, [columns, rows]] of Object.entries(GRIDS)) {
      expect(columns * rows).toBeGreaterThanOrEqual(Number(perPage));
    }
  });

  it('keep cells on the paper and apart', () => {
    for (const paper of Object.values(PAPERS)) {
      for (let perPage = 1; perPage <= 6; perPage++) {
        const [page] = layoutPages(perPage, perPage, false, paper);
        const cells = page?.kind === 'panels' ? page.cells : [];
        for (const one of cells) {
          expect(one.x).toBeGreaterThan(0);
          expect(one.x + one.width).toBeLessThan(1);
          expect(one.y + one.height).toBeLessThan(1);
          for (const other of cells.filter((cell) => cell.panel > one.panel)) {
            const beside = other.x >= one.x + one.width || one.x >= other.x + other.width;
            expect(beside || other.y >= one.y + one.height).toBe(true);
          }
        }
      }
    }
  });

  it('begin with a title page where that is wanted, even without panels', () => {
    expect(layoutPages(0, 4, true, PAPERS.a4)).toEqual([{ kind: 'title' }]);
  });
});

describe('pictures', () => {
  it('of few pixels are enlarged by whole numbers', () => {
    expect(shownSize(64, 64, 300, 300)).toEqual({ width: 256, height: 256, pixelated: true });
    expect(shownSize(64, 96, 300, 300)).toEqual({ width: 192, height: 288, pixelated: true });
  });

  it('are never stretched', () => {
    for (const [width, height] of [[64, 48], [1024, 768], [100, 2000], [512, 512]] as const) {
      const shown = shownSize(width, height, 333, 281);
      expect(shown.width / shown.height).toBeCloseTo(width / height, 1);
      expect(shown.width).toBeLessThanOrEqual(333);
      expect(shown.height).toBeLessThanOrEqual(281);
    }
  });
});

it('strengths have words', () => {
  expect([0, 0.5, 1, 2].map(strengthWord)).toEqual(['absent', 'hint', 'balanced', 'strong']);
});
