// How loud a sound is.

const SILENCE = -50; // dB, shown as 0

/** Tell `show` at each repaint how loud a track is, 0 to 1; the function that it returns ends that. */
export function measureLevel(track, show) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1_024 });
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let asked;
  const look = () => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    show(Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-9)) / SILENCE)));
    asked = requestAnimationFrame(look);
  };
  look();
  return () => {
    cancelAnimationFrame(asked);
    context.close();
    show(0);
  };
}
