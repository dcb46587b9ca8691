// Sets the chosen theme before the page is drawn. No module, so that it runs first.
try {
  document.documentElement.dataset.theme = JSON.parse(localStorage.getItem("trine.preferences"))?.theme ?? "auto";
} catch {
  document.documentElement.dataset.theme = "auto";
}
