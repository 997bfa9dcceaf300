// Runs a network that `gossamer export --c` wrote, compiled to WebAssembly as docs/howto/c.md says.
// For browsers and Node alike:
//
//   const bytes = await (await fetch("keywords.wasm")).arrayBuffer();
//   const network = await load(bytes, "keywords", 12);  // 12 outputs
//   const scores = network(new Float32Array(features));

/**
 * @param {BufferSource} bytes the module
 * @param {string} name of the network, as in its function NAME_run
 * @param {number} outputs floats of its output (the macro NAME_OUT)
 * @returns {Promise<(input: Float32Array) => Float32Array>} runs one example
 */
export async function load(bytes, name, outputs) {
  const { instance } = await WebAssembly.instantiate(bytes);
  const { memory, __heap_base: free, [`${name}_run`]: run } = instance.exports;
  if (!run) throw new Error(`the module has no function ${name}_run; was it exported?`);
  return (input) => {
    // Behind everything that the module uses itself: the input, then the output.
    const at = (free.value + 15) & ~15;
    const missing = at + 4 * (input.length + outputs) - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    new Float32Array(memory.buffer, at, input.length).set(input);
    run(at, at + 4 * input.length);
    return new Float32Array(memory.buffer, at + 4 * input.length, outputs).slice();
  };
}
