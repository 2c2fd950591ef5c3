setUpTheme();
showHead();
const explorer = makeExplorer();
showCoverage(explorer.visit);
showWeights(explorer.visit);
showInherited(explorer.visit);
showProfile();
showProperties();
showTools();
// How long it took, for tests and the curious.
performance.mark("ready");
document.documentElement.dataset.ready = "true";
