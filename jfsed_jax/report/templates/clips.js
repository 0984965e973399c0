// The clips of a page: over the picture of one that is heard moves a cursor, and the picture seeks.
(() => {
  const players = [...document.querySelectorAll(".clip audio")];
  document.querySelector(".seeking").hidden = false;
  for (const audio of players) {
    const lanes = audio.closest(".lanes"), seconds = Number(lanes.dataset.seconds);
    const mel = lanes.querySelector(".mel");

    const paint = () => {
      const now = audio.currentTime;
      lanes.style.setProperty("--at", `${(100 * now) / seconds}%`);
      if (!mel) return;
      mel.setAttribute("aria-valuenow", now.toFixed(2));
      mel.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${seconds} seconds`);
    };
    const seek = (time) => {
      audio.currentTime = Math.max(0, Math.min(time, audio.duration || seconds));
      paint();
    };

    follow(audio, paint);
    audio.addEventListener("play", () => {
      for (const other of players) if (other !== audio) other.pause();
    });
    lanes.classList.add("seeks");
    for (const track of lanes.querySelectorAll(".track")) {
      track.addEventListener("click", (event) => seek(seconds * share(event, track)));
    }
    if (!mel) continue;
    mel.tabIndex = 0;
    for (const [name, value] of [
      ["role", "slider"], ["aria-label", `${mel.firstElementChild.alt}: position`],
      ["aria-valuemin", 0], ["aria-valuemax", seconds], ["aria-valuenow", 0],
    ]) mel.setAttribute(name, value);
    mel.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const act = {
        ArrowLeft: () => seek(audio.currentTime - 1), ArrowRight: () => seek(audio.currentTime + 1),
        Home: () => seek(0), End: () => seek(seconds),
        " ": () => { if (audio.paused) audio.play().catch(() => {}); else audio.pause(); },
      }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }
})();
