/** Pictures and masks between the service, canvases and plain pixels. */
import { fetchPicture } from '../../api/pictures';
import { coloured, type Mask, type Rgba } from '../../lib/painting';
import type { Size } from '../../lib/region';

export async function loadPicture(path: string): Promise<ImageBitmap> {
  return createImageBitmap(await fetchPicture(path));
}

/** A stored mask in another size, painted where it is light. */
export async function loadMask(path: string, { width, height }: Size): Promise<Mask> {
  const stored = await loadPicture(path);
  const context = newContext({ width, height });
  context.drawImage(stored, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, pixels: Uint8Array.from({ length: width * height }, (_, at) => ((data[4 * at] ?? 0) > 127 ? 1 : 0)) };
}

/** How a mask is shown over its picture: the colours of what is painted, and of the rest. */
export interface Shades {
  inside: Rgba;
  outside: Rgba;
}

/** The picture under the mask's colours; without a mask the picture alone. */
export function show(canvas: HTMLCanvasElement, picture: ImageBitmap, { width, height }: Size, mask: Mask | null, shades: Shades): void {
  canvas.width = width;
  canvas.height = height;
  const context = contextOf(canvas);
  context.drawImage(picture, 0, 0, width, height);
  if (mask) context.drawImage(drawn(mask, shades.inside, shades.outside), 0, 0);
}

/** The mask in two colours as a PNG of the size. */
export async function maskFile(mask: Mask, inside: Rgba, outside: Rgba, size: Size): Promise<Blob> {
  const own = drawn(mask, inside, outside);
  const same = own.width === size.width && own.height === size.height;
  const context = same ? contextOf(own) : newContext(size);
  if (!same) context.drawImage(own, 0, 0, size.width, size.height);
  const blob = await new Promise<Blob | null>((resolve) => context.canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error('the mask could not be written');
  return blob;
}

function drawn(mask: Mask, inside: Rgba, outside: Rgba): HTMLCanvasElement {
  const context = newContext(mask);
  context.putImageData(new ImageData(coloured(mask, inside, outside), mask.width, mask.height), 0, 0);
  return context.canvas;
}

function newContext({ width, height }: Size): CanvasRenderingContext2D {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return contextOf(canvas);
}

function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('no canvas');
  return context;
}
