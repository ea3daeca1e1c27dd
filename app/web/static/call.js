// The page of one call: its menu stands beside its button, and its links copy.

import { copyByFetch, placeMenus } from "./menus.js";

placeMenus(document);
copyByFetch(document);
