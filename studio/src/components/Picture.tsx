/** A picture in a frame: loaded when it comes into view, whole, and small ones enlarged without blur. */
import { useElementSize, useMergedRef } from '@mantine/hooks';
import { useEffect, useMemo, useState, type CSSProperties, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { isAtHand, useBlobUrl, usePicture } from '../api/pictures';
import { base64ToBlob } from '../lib/base64';
import { shownSize } from '../lib/scale';
import { Icon } from './Icon';
import classes from './Picture.module.css';

/** How far outside the window pictures are loaded, in CSS pixels. */
const MARGIN = '400px';

interface FrameProps {
  alt: string;
  /** Width divided by height. */
  ratio?: number;
  className?: string | undefined;
  children?: ReactNode;
  /** On white, as cut-outs are. */
  plain?: boolean;
  /** Fill the frame, which has the picture's form: on a page the panel's edge is the picture's. */
  fill?: boolean;
  /** A mask by path: where it is light, the picture is tinted. */
  mask?: string | null;
  /** A box to frame: left, top, right and bottom in pixels of the picture. */
  marked?: readonly [number, number, number, number] | null;
}

export function Picture({ path, eager = false, ...frame }: FrameProps & { path: string | null; eager?: boolean }) {
  const [near, setNear] = useState(eager || isAtHand(path));
  const [element, setElement] = useState<HTMLElement | null>(null);
  useEffect(() => {
    if (near || !element) return;
    const observer = new IntersectionObserver(
      (seen) => seen.some((each) => each.isIntersecting) && setNear(true),
      { rootMargin: MARGIN },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [near, element]);
  const { url, problem } = usePicture(near ? path : null);
  return <Frame {...frame} url={url} failed={problem !== null} waiting={near && path !== null} frameRef={setElement} />;
}

export function BlobPicture({ blob, ...frame }: FrameProps & { blob: Blob | null }) {
  return <Frame {...frame} url={useBlobUrl(blob)} failed={false} waiting={blob !== null} />;
}

export function Base64Picture({ encoded, ...frame }: FrameProps & { encoded: string }) {
  const blob = useMemo(() => base64ToBlob(encoded), [encoded]);
  return <BlobPicture {...frame} blob={blob} />;
}

interface ShownProps extends FrameProps {
  url: string | null;
  failed: boolean;
  waiting: boolean;
  frameRef?: (element: HTMLElement | null) => void;
}

function Frame({ alt, ratio = 1, plain = false, fill = false, className, children, mask, marked, url, failed, waiting, frameRef }: ShownProps) {
  const { t } = useTranslation();
  const { ref, width, height } = useElementSize();
  const merged = useMergedRef(ref, frameRef ?? null);
  const [natural, setNatural] = useState<{ width: number; height: number } | null>(null);
  const shown = natural && width && height ? shownSize(natural.width, natural.height, width, height) : null;
  const size = shown && fill ? { ...shown, width, height } : shown;
  const style: CSSProperties = size
    ? { width: size.width, height: size.height, imageRendering: size.pixelated ? 'pixelated' : 'auto' }
    : { visibility: 'hidden' };
  return (
    <div
      ref={merged}
      className={`${classes.frame} ${className ?? ''}`}
      style={{ aspectRatio: ratio }}
      data-plain={plain || undefined}
      data-square={fill || undefined}
    >
      {url && (
        <img
          src={url}
          alt={alt}
          style={style}
          className={classes.image}
          draggable={false}
          onLoad={(event) =>
            setNatural({ width: event.currentTarget.naturalWidth, height: event.currentTarget.naturalHeight })
          }
        />
      )}
      {url && mask && size && <Mask path={mask} width={size.width} height={size.height} />}
      {url && marked && natural && size && (
        <span className={classes.marks} style={{ width: size.width, height: size.height }}>
          <span className={classes.mark} style={placeOf(marked, natural)} />
        </span>
      )}
      {!url && waiting && !failed && <span className={classes.waiting} />}
      {failed && (
        <span className={classes.failed} role="img" aria-label={alt} title={t('problem.unknown')}>
          <Icon name="image" size={28} />
        </span>
      )}
      {children}
    </div>
  );
}

/** Where a box is in a picture, in per cent of it. */
function placeOf([left, top, right, bottom]: readonly [number, number, number, number], of: { width: number; height: number }) {
  const percent = (value: number, side: number): string => `${(100 * value) / side}%`;
  return {
    left: percent(left, of.width),
    top: percent(top, of.height),
    width: percent(right - left, of.width),
    height: percent(bottom - top, of.height),
  };
}

function Mask({ path, width, height }: { path: string; width: number; height: number }) {
  const { url } = usePicture(path);
  if (!url) return null;
  return <span className={classes.mask} style={{ width, height, maskImage: `url("${url}")` }} />;
}
