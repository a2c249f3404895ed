/** Advice on pictures in the words of the person. */
import { useTranslation } from 'react-i18next';
import { adviceOf } from '../lib/advice';

/** Says a sentence of the service; one that the studio does not know stays as it is. */
export function useAdvice(): (sentence: string) => string {
  const { t } = useTranslation();
  return (sentence) => {
    const advice = adviceOf(sentence);
    return advice ? t(`advice.${advice.kind}`, advice.values as Required<Record<'pixels' | 'least' | 'share', string>>) : sentence;
  };
}
