/**
 * Properties draw the same examples in every run, so that a change is judged by what it changed. `KAS_PROPERTY_SEED=random`
 * draws others, and says which when one fails; a number draws those again.
 */
import fc from "fast-check";

const FIXED = 20_261_122;
const { KAS_PROPERTY_SEED: asked } = process.env;

if (asked !== "random") fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: asked ? Number(asked) : FIXED });
