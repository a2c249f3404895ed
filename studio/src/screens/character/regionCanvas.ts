/** A picture and the mask of its subject as canvases; the mask is opaque on the subject. */
import { fetchPicture } from '../../api/pictures';
import { boxOfAlpha, type Box, type Size } from '../../lib/region';

/** Longer side, in pixels, at which a mask is painted. */
const WORKING_SIDE = 1024;

export interface Region {
  /** The picture's own size. */
  size: Size;
  /** Pixels of the canvases a pixel of the picture. */
  scale: number;
  picture: ImageBitmap;
  mask: HTMLCanvasElement;
}

/** The picture with a mask that is opaque everywhere: what there is before the subject's mask has arrived. */
export async function loadPicture(original: string): Promise<Region> {
  const picture = await createImageBitmap(await fetchPicture(original));
  const size = { width: picture.width, height: picture.height };
  const scale = Math.min(1, WORKING_SIDE / Math.max(size.width, size.height));
  const mask = newCanvas({ width: Math.max(1, Math.round(size.width * scale)), height: Math.max(1, Math.round(size.height * scale)) });
  const context = contextOf(mask);
  context.fillStyle = 'white';
  context.fillRect(0, 0, mask.width, mask.height);
  return { size, scale, picture, mask };
}

/** The same picture with the subject's mask. */
export async function withMask(region: Region, path: string): Promise<Region> {
  const subject = await createImageBitmap(await fetchPicture(path));
  const canvas = newCanvas(region.mask);
  const context = contextOf(canvas);
  context.drawImage(subject, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) {
    const value = (pixels.data[at] ?? 0) > 127 ? 255 : 0;
    pixels.data.set([255, 255, 255, value], at);
  }
  context.putImageData(pixels, 0, 0);
  return { ...region, mask: canvas };
}

/** The subject's box, in pixels of the picture. */
export function subjectBox({ mask, scale }: Region): Box | null {
  const { data } = contextOf(mask).getImageData(0, 0, mask.width, mask.height);
  const box = boxOfAlpha(data.filter((_, at) => at % 4 === 3), mask);
  return box && (box.map((value) => Math.round(value / scale)) as unknown as Box);
}

/** The picture, pale where the subject is not. */
export function showRegion(canvas: HTMLCanvasElement, { picture, mask }: Region): void {
  canvas.width = mask.width;
  canvas.height = mask.height;
  const shade = newCanvas(mask);
  const pale = contextOf(shade);
  pale.fillStyle = 'rgb(255 255 255 / 82%)';
  pale.fillRect(0, 0, shade.width, shade.height);
  pale.globalCompositeOperation = 'destination-out';
  pale.drawImage(mask, 0, 0);
  const context = contextOf(canvas);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.drawImage(shade, 0, 0);
}

/** Add a stroke to the mask, or take it away. Points and width in pixels of the canvas. */
export function paint(
  { mask }: Region,
  from: readonly [number, number],
  to: readonly [number, number],
  width: number,
  erase: boolean,
): void {
  const context = contextOf(mask);
  context.globalCompositeOperation = erase ? 'destination-out' : 'source-over';
  context.strokeStyle = 'white';
  context.lineWidth = width;
  context.lineCap = 'round';
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

/** The mask as the service takes it: a PNG of the picture's size, white on the subject. */
export async function maskFile({ mask, size }: Region): Promise<Blob> {
  const canvas = newCanvas(size);
  const context = contextOf(canvas);
  context.fillRect(0, 0, size.width, size.height);
  context.drawImage(mask, 0, 0, size.width, size.height);
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (!blob) throw new Error('the mask could not be written');
  return blob;
}

function newCanvas({ width, height }: Size): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

function contextOf(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('no canvas');
  return context;
}
