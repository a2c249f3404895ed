/** A text field in which `@` completes names of the cast and mentions are coloured. */
import { useId, useLayoutEffect, useRef, useState, type ClipboardEvent, type KeyboardEvent, type RefObject } from 'react';
import { useTranslation } from 'react-i18next';
import { thumbnailOf, type Character } from '../api/client';
import { folded, mentionOf, nameKey, openMention, pieces } from '../lib/mentions';
import { Picture } from './Picture';
import classes from './MentionField.module.css';

const HUES = 8;
const SUGGESTED = 6;

/** The colour of a character: the cast takes turns, the oldest first, so that it stays when others come. */
function hueOf(id: string, cast: readonly Character[]): number {
  return (cast.length - 1 - cast.findIndex((each) => each.id === id)) % HUES;
}

interface MentionFieldProps {
  value: string;
  onChange: (value: string) => void;
  cast: readonly Character[];
  label: string;
  placeholder?: string;
  invalid?: boolean;
  describedBy?: string | undefined;
  bare?: boolean;
  fieldRef?: RefObject<HTMLTextAreaElement | null>;
  onBlur?: () => void;
  onFocus?: () => void;
  /** Keys that the list of names does not need. */
  onKeyDown?: (event: KeyboardEvent<HTMLTextAreaElement>) => void;
  onPaste?: (event: ClipboardEvent<HTMLTextAreaElement>) => void;
}

export function MentionField(props: MentionFieldProps) {
  const { value, onChange, cast, label, placeholder, invalid = false, describedBy, bare = false } = props;
  const { t } = useTranslation();
  const own = useRef<HTMLTextAreaElement>(null);
  const field = props.fieldRef ?? own;
  const list = useId();
  const caretAfter = useRef<number | null>(null);
  const [caret, setCaret] = useState<number | null>(null);
  const [active, setActive] = useState(0);

  const open = caret === null ? null : openMention(value, caret);
  const query = open ? folded(open.query) : '';
  const found = open ? cast.filter((each) => folded(each.name).includes(query)) : [];
  found.sort((one, other) => Number(folded(other.name).startsWith(query)) - Number(folded(one.name).startsWith(query)));
  const suggestions = found.slice(0, SUGGESTED);
  const exact = suggestions.length === 1 && folded(suggestions[0]?.name ?? '') === query;
  const shown = open !== null && cast.length > 0 && !exact;
  const index = Math.min(active, suggestions.length - 1);

  useLayoutEffect(() => {
    if (caretAfter.current === null || !field.current) return;
    field.current.setSelectionRange(caretAfter.current, caretAfter.current);
    caretAfter.current = null;
  }, [value, field]);

  const complete = (character: Character): void => {
    if (!open || caret === null) return;
    const before = `${value.slice(0, open.start)}${mentionOf(character.name)}`;
    const after = value.slice(caret).replace(/^"/, '');
    const space = /^[\s.,;:!?)]/.test(after) ? '' : ' ';
    caretAfter.current = before.length + space.length;
    setCaret(null);
    onChange(before + space + after);
    field.current?.focus();
  };

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    const chosen = suggestions[index];
    if (shown && chosen && !event.nativeEvent.isComposing) {
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
        const step = event.key === 'ArrowDown' ? 1 : -1;
        setActive((index + step + suggestions.length) % suggestions.length);
        return event.preventDefault();
      }
      if (event.key === 'Enter' || event.key === 'Tab') {
        complete(chosen);
        return event.preventDefault();
      }
    }
    if (shown && event.key === 'Escape') {
      setCaret(null);
      event.stopPropagation();
      return event.preventDefault();
    }
    props.onKeyDown?.(event);
  };

  return (
    <div className={classes.wrap} data-invalid={invalid || undefined} data-bare={bare || undefined}>
      <div className={classes.mirror} aria-hidden="true">
        {pieces(value, cast.map((each) => each.name)).map((piece, place) => (
          <MirrorPiece key={place} text={piece.text} name={piece.mention?.name ?? null} cast={cast} />
        ))}
        {/* A last empty line has its height only if something follows it. */}
        {'\u200b'}
      </div>
      <textarea
        ref={field}
        className={classes.field}
        value={value}
        rows={1}
        aria-label={label}
        placeholder={placeholder}
        aria-invalid={invalid || undefined}
        aria-describedby={describedBy}
        aria-autocomplete="list"
        aria-controls={shown ? list : undefined}
        aria-activedescendant={shown && index >= 0 ? `${list}-${index}` : undefined}
        spellCheck
        onChange={(event) => {
          setCaret(event.target.selectionStart);
          setActive(0);
          onChange(event.target.value);
        }}
        onSelect={(event) => caret !== null && setCaret(event.currentTarget.selectionStart)}
        onFocus={props.onFocus}
        onBlur={() => {
          setCaret(null);
          props.onBlur?.();
        }}
        onKeyDown={onKeyDown}
        onPaste={props.onPaste}
      />
      {shown && (
        <ul className={classes.list} id={list} role="listbox" aria-label={t('script.suggestions')}>
          {suggestions.map((each, place) => (
            <li
              key={each.id}
              id={`${list}-${place}`}
              role="option"
              aria-selected={place === index}
              className={classes.option}
              // The field keeps the focus.
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => complete(each)}
              onMouseEnter={() => setActive(place)}
            >
              <Picture path={thumbnailOf(each)} alt="" plain className={classes.face} />
              <span className={classes.name}>{each.name}</span>
              <span className={classes.word}>{each.target_word}</span>
            </li>
          ))}
          {suggestions.length === 0 && (
            <li className={classes.none} role="option" aria-selected="false" aria-disabled="true">
              {t('script.noMatch')}
            </li>
          )}
        </ul>
      )}
    </div>
  );
}

function MirrorPiece({ text, name, cast }: { text: string; name: string | null; cast: readonly Character[] }) {
  if (name === null) return <>{text}</>;
  const member = cast.find((each) => nameKey(each.name) === nameKey(name));
  return member ? (
    <mark className={classes.mention} data-hue={hueOf(member.id, cast)}>
      {text}
    </mark>
  ) : (
    <mark className={classes.unknown}>{text}</mark>
  );
}

/** A prompt to be read, its mentions coloured. */
export function PromptText({ text, cast }: { text: string; cast: readonly Character[] }) {
  return (
    <>
      {pieces(text, cast.map((each) => each.name)).map((piece, place) => {
        const name = piece.mention?.name;
        if (name === undefined) return <span key={place}>{piece.text}</span>;
        const member = cast.find((each) => nameKey(each.name) === nameKey(name));
        return (
          <span key={place} className={member ? classes.mention : classes.unknown} data-hue={member && hueOf(member.id, cast)}>
            {name}
          </span>
        );
      })}
    </>
  );
}
