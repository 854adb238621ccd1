// Replies with each message as it is, or with the setting `act = "next"` hands it on. The same in each language.

let handsOn = false;

export const lifecycle = {
  configure(settings) {
    handsOn = settings.some(([name, value]) => name === 'act' && value === 'next');
    return { facts: [], paths: [], others: [] };
  },
};

export const frames = {
  onFrame: (connection, message) => (handsOn ? [{ tag: 'next' }] : [{ tag: 'reply', val: message }]),
};
