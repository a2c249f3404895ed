import { useTranslation } from 'react-i18next';
import { Icon } from '../../components/Icon';
import type { Warning } from '../../lib/script';
import classes from './Script.module.css';

/** What is wrong with a line, as sentences under it. */
export function Warnings({ id, warnings, problem }: { id: string; warnings: Warning[]; problem?: string | undefined }) {
  const { t } = useTranslation();
  const text = (warning: Warning): string => {
    switch (warning.kind) {
      case 'same_word':
        return t('script.warn.same_word', { names: warning.names.join(', '), word: warning.word });
      case 'unknown':
      case 'ambiguous':
        return t(`script.warn.${warning.kind}`, { name: warning.name });
      case 'too_many':
      case 'too_long':
        return t(`script.warn.${warning.kind}`, { count: warning.count });
      case 'unread':
        return t('script.warn.unread', { text: warning.text });
    }
  };
  const sentences = [...(problem ? [problem] : []), ...warnings.map(text)];
  if (sentences.length === 0) return null;
  return (
    <ul className={classes.warnings} id={id}>
      {sentences.map((sentence, place) => (
        <li key={sentence} data-grave={place === 0 && problem ? true : warnings[place]?.kind !== 'unread' || undefined}>
          <Icon name="alert" size={16} />
          <span>{sentence}</span>
        </li>
      ))}
    </ul>
  );
}
