import { createTheme, type MantineColorsTuple } from '@mantine/core';

/** The accent: a deep green that is neither an error nor a link in a picture. */
const accent: MantineColorsTuple = [
  '#eaf6f5', '#d3eae8', '#a6d6d2', '#76c1bb', '#4fafa8', '#2f9c94', '#17827a', '#0f6b66', '#0b5550', '#06403c',
];

export const theme = createTheme({
  primaryColor: 'accent',
  primaryShade: { light: 7, dark: 6 },
  autoContrast: true,
  colors: { accent },
  defaultRadius: 'md',
  fontFamily: 'system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace',
  headings: {
    fontWeight: '650',
    sizes: {
      h1: { fontSize: '1.75rem', lineHeight: '1.25' },
      h2: { fontSize: '1.25rem', lineHeight: '1.3' },
      h3: { fontSize: '1rem', lineHeight: '1.4' },
    },
  },
  radius: { sm: '6px', md: '8px', lg: '16px' },
  spacing: { xs: '8px', sm: '12px', md: '16px', lg: '24px', xl: '32px' },
  cursorType: 'pointer',
  respectReducedMotion: true,
  components: {
    Modal: { defaultProps: { centered: true, radius: 'lg', padding: 'lg' } },
    // A header of a dialog is no landmark, and dialogs may lie over others.
    ModalHeader: { defaultProps: { role: 'presentation' } },
    Tooltip: { defaultProps: { withArrow: true, openDelay: 400 } },
    Menu: { defaultProps: { radius: 'md', shadow: 'md', position: 'bottom-end' } },
  },
});
