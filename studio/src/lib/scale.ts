/** How large a picture is shown: small ones enlarged by whole numbers and without blur, none stretched. */

/** Pictures with a longer side up to this many pixels are enlarged. */
const SMALL = 256;

export interface Shown {
  width: number;
  height: number;
  /** Whether its pixels are to stay visible as squares. */
  pixelated: boolean;
}

/** The size, in CSS pixels, of a picture in a box. */
export function shownSize(width: number, height: number, boxWidth: number, boxHeight: number): Shown {
  const fit = Math.min(boxWidth / width, boxHeight / height);
  if (Math.max(width, height) <= SMALL && fit >= 1) {
    const factor = Math.floor(fit);
    return { width: width * factor, height: height * factor, pixelated: factor > 1 };
  }
  return { width: Math.round(width * fit), height: Math.round(height * fit), pixelated: false };
}
