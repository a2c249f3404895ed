import { useTranslation } from 'react-i18next';
import { Link } from 'wouter';
import { Icon } from '../../components/Icon';
import type { Warning } from '../../lib/script';
import { wantedName } from '../character/offered';
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
  if (!problem && warnings.length === 0) return null;
  return (
    <ul className={classes.warnings} id={id}>
      {problem && (
        <li data-grave>
          <Icon name="alert" size={16} />
          <span>{problem}</span>
        </li>
      )}
      {warnings.map((warning) => (
        <li key={text(warning)} data-grave={warning.kind !== 'unread' || undefined}>
          <Icon name="alert" size={16} />
          <span>
            {text(warning)} {warning.kind === 'unknown' && <Create name={warning.name} />}
          </span>
        </li>
      ))}
    </ul>
  );
}

function Create({ name }: { name: string }) {
  const { t } = useTranslation();
  return (
    <Link href="/cast/new" className={classes.create} onClick={() => wantedName.set(name)}>
      {t('script.createNamed', { name })}
    </Link>
  );
}
