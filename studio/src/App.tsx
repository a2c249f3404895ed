/** The frame of the studio: navigation, notices and the screens. */
import { useQuery } from '@tanstack/react-query';
import { useEffect, type ReactNode } from 'react';
import { useTranslation } from 'react-i18next';
import { Link, Redirect, Route, Router, Switch, useLocation } from 'wouter';
import { useHashLocation } from 'wouter/use-hash-location';
import { keyRefused } from './api/key';
import { modelsQuery } from './api/queries';
import { ConfirmDialog } from './components/bits';
import { Icon, type IconName } from './components/Icon';
import { Banners, ConflictDialog, Toasts } from './components/Notices';
import { useStore } from './lib/store';
import { KeyGate } from './screens/KeyGate';
import { Cast, CharacterScreen, History, NewCharacter, OnePicture, Settings, Stories } from './screens/screens';
import { StoryScreen } from './screens/story/StoryScreen';
import classes from './App.module.css';

const PLACES = [
  { path: '/', name: 'stories', icon: 'book' },
  { path: '/cast', name: 'cast', icon: 'users' },
  { path: '/picture', name: 'picture', icon: 'image' },
  { path: '/history', name: 'history', icon: 'clock' },
  { path: '/settings', name: 'settings', icon: 'settings' },
] as const satisfies readonly { path: string; name: string; icon: IconName }[];

export function App() {
  return (
    <Router hook={useHashLocation}>
      <Shell>
        <Switch>
          <Route path="/">
            <Stories />
          </Route>
          <Route path="/stories/:id">{({ id }) => <Redirect to={`/stories/${id}/board`} replace />}</Route>
          <Route path="/stories/:id/:view/:panel?">
            {({ id, view, panel }) => <StoryScreen key={id} id={id} view={view} panel={panel ?? null} />}
          </Route>
          <Route path="/cast">
            <Cast />
          </Route>
          <Route path="/cast/new">
            <NewCharacter />
          </Route>
          <Route path="/cast/:id">{({ id }) => <CharacterScreen key={id} id={id} />}</Route>
          <Route path="/picture">
            <OnePicture />
          </Route>
          <Route path="/history">
            <History />
          </Route>
          <Route path="/settings">
            <Settings />
          </Route>
          <Route>
            <Redirect to="/" replace />
          </Route>
        </Switch>
      </Shell>
      <Toasts />
      <ConfirmDialog />
      <ConflictDialog />
    </Router>
  );
}

function Shell({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const [location] = useLocation();
  const refused = useStore(keyRefused);
  const models = useQuery(modelsQuery);
  const here = PLACES.find((place) => place.path !== '/' && location.startsWith(place.path)) ?? PLACES[0];
  useEffect(() => {
    document.title = `${t(`nav.${here.name}`)} · ${t('product')}`;
  }, [here.name, t]);
  const locked = refused !== 'no' && here.name !== 'settings';
  return (
    <div className={classes.shell}>
      <a href="#main" className={classes.skip} onClick={skip}>
        {t('nav.skip')}
      </a>
      <nav className={classes.nav} aria-label={t('nav.label')}>
        <Link href="/" className={classes.brand}>
          <img src={`${import.meta.env.BASE_URL}icon.svg`} alt="" width={28} height={28} />
          <span>{t('product')}</span>
        </Link>
        {PLACES.map((place) => (
          <Link
            key={place.path}
            href={place.path}
            className={classes.place}
            aria-current={place === here ? 'page' : undefined}
          >
            <Icon name={place.icon} size={20} />
            <span>{t(`nav.${place.name}`)}</span>
          </Link>
        ))}
      </nav>
      <div className={classes.body}>
        <Banners />
        <main id="main" tabIndex={-1} className={classes.main}>
          {locked ? <KeyGate onKey={() => void models.refetch()} /> : children}
        </main>
      </div>
    </div>
  );
}

/** The hash is the route, so the link moves the focus by itself. */
function skip(event: React.MouseEvent): void {
  event.preventDefault();
  document.getElementById('main')?.focus();
}
