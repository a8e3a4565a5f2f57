"""Models of Keras of any class: copies of them with some layers swapped."""
