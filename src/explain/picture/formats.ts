/** The forms that a picture can be given out in. */
export const FORMATS = ["svg", "png", "mermaid", "text"] as const;
export type Format = (typeof FORMATS)[number];
